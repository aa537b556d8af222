"""Checks of the Salesforce package that need no org: what a deploy would refuse, and what would work less well than it should.

`python -m tests.salesforce_package` prints every finding. `schema` holds the files against Salesforce's own XML schema; `project`, `components`,
`fields`, `references`, `flows`, `permissions`, `nothing_private` and `data` hold what no schema says; `conversion` has Salesforce's own library
read every file, and the manifests are what it finds. What only an org can tell is left to `sf project deploy start --dry-run`.
"""
