"""Runs the function app on a laptop, with Microsoft's own Python worker library and without `func`.

`host.Host` is the whole thing: an ASGI app that also runs timers and queues. It leans on `worker` (loads and calls the functions),
`routing` (from a request to a function), `timers`, `queues`, `settings` (host.json and app settings) and `azurite` (storage).
`python -m devhost` serves it on a port; `devhost.served` does so beside code that waits, such as a demo.
Nothing here is deployed and nothing that is deployed may import it: `func start` works on the same folder.
"""
