// Alerts, mailed to one address. A query answers rows only where something is wrong. docs/operations.md: what each means, what to do.
param environmentName string
param workspaceId string
param email string
param stuckAfterMinutes int
param location string
param tags object

var runbook = 'docs/operations.md'

// The line that the connector logs every minute (shared/pulse.py); its fields are listed in docs/operations.md. -1 stands for "not known".
var heartbeats = 'AppTraces | where Message startswith "cosell.status {" | extend Status = parse_json(substring(Message, 14))'
var latest = '${heartbeats} | summarize arg_max(TimeGenerated, Status)'

var alerts = [
  {
    name: 'silent'
    title: 'Nothing is heard from the connector'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: '${heartbeats} | summarize Heartbeats = count() | where Heartbeats == 0'
  }
  {
    name: 'nothing-synchronized'
    title: 'Nothing was written for ${stuckAfterMinutes} minutes while work is owed'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: '${latest} | where todouble(Status.owed) > 0 and todouble(Status.oldest_owed_seconds) > ${stuckAfterMinutes * 60} and (todouble(Status.last_write_seconds) > ${stuckAfterMinutes * 60} or todouble(Status.last_write_seconds) == -1)'
  }
  {
    name: 'registration-lost'
    title: 'Events of Partner Center do not arrive'
    severity: 1
    every: 'PT15M'
    window: 'PT30M'
    // In shadow mode nothing is registered, on purpose.
    query: '${latest} | where todouble(Status.shadow) == 0 and (todouble(Status.registration_ok) == 0 or todouble(Status.heartbeat_lost) == 1)'
  }
  {
    name: 'refresh-token'
    title: 'A sign-in is refused, or the one to Partner Center ends soon'
    severity: 1
    every: 'PT1H'
    window: 'PT1H'
    query: '${latest} | where todouble(Status.signed_in) == 0 or (todouble(Status.refresh_token_days_left) < 14 and todouble(Status.refresh_token_days_left) != -1)'
  }
  {
    name: 'held'
    title: 'The brake holds a direction'
    severity: 1
    every: 'PT5M'
    window: 'PT15M'
    query: '${latest} | where todouble(Status.held) > 0'
  }
  {
    name: 'error-rate'
    title: 'More than a tenth of the runs fail'
    severity: 2
    every: 'PT5M'
    window: 'PT15M'
    // What a caller did wrong (4xx) is not our failure; functions without HTTP have the code 0.
    query: 'AppRequests | where coalesce(toint(ResultCode), 0) !between (400 .. 499) | summarize Failed = countif(Success == false), Runs = count() | where Failed >= 5 and Failed * 10 > Runs'
  }
  {
    name: 'poison'
    title: 'A wake-up was given up on'
    severity: 2
    every: 'PT15M'
    window: 'PT30M'
    query: '${latest} | where todouble(Status.poison) > 0'
  }
  {
    name: 'salesforce-budget'
    title: 'Four fifths of the Salesforce API calls of the day are spent'
    severity: 2
    every: 'PT15M'
    window: 'PT30M'
    query: '${latest} | where todouble(Status.salesforce_api_percent) > 80'
  }
  {
    name: 'parked'
    title: 'Deals wait for a person'
    severity: 3
    every: 'PT15M'
    window: 'PT30M'
    query: '${latest} | where todouble(Status.parked) > 0'
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-cosell-${environmentName}'
  location: 'global'
  tags: tags
  properties: {
    enabled: true
    groupShortName: 'cosell'
    emailReceivers: [
      {
        name: 'operators'
        emailAddress: email
        useCommonAlertSchema: true
      }
    ]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [for alert in alerts: {
  name: 'cosell-${environmentName}-${alert.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${environmentName}: ${alert.title}'
    description: 'What it means and what to do: ${runbook}#${alert.name}'
    severity: alert.severity
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: alert.every
    windowSize: alert.window
    autoMitigate: true
    // On the first deployment no line has been logged yet, and a table that is not there yet would fail it.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: alert.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: 0
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: {
      actionGroups: [people.id]
    }
  }
}]

output actionGroupId string = people.id
