// One environment of the connector in a resource group of its own. `azd up` deploys it; docs/deploy.md explains every parameter.
targetScope = 'subscription'

// -- what azd gives ---------------------------------------------------------------------------------------------------------------------

@description('Name of this environment, such as staging or production. Two names are two environments that share nothing.')
@minLength(2)
@maxLength(20)
param environmentName string

@description('Azure region. It must offer the Flex Consumption plan: az functionapp list-flexconsumption-locations')
@minLength(1)
param location string

@description('Object id of the person, group or pipeline that stores the secrets. azd fills it in with whoever is signed in. Empty: nobody.')
param operatorId string = ''

@description('What operatorId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param operatorType string = 'User'

// -- the two sides ----------------------------------------------------------------------------------------------------------------------

@description('Directory (tenant) id of the Partner Center tenant. The app registration must live in it, and so must this subscription.')
@minLength(36)
@maxLength(36)
param partnerCenterTenantId string

@description('Application (client) id of the Entra app registration.')
@minLength(36)
@maxLength(36)
param partnerCenterClientId string

@description('My Domain address of the org, https://NAME.my.salesforce.com, or https://NAME--SANDBOX.sandbox.my.salesforce.com')
@minLength(12)
param salesforceLoginUrl string

@description('Consumer key of the External Client App.')
@minLength(10)
param salesforceClientId string

@description('How the connector signs in to Salesforce: privateKey is the JWT bearer flow (preferred), clientSecret the client credentials flow.')
@allowed(['privateKey', 'clientSecret'])
param salesforceSignIn string = 'privateKey'

@description('User name of the integration user. Needed for privateKey.')
param salesforceUsername string = ''

@description('Id of the org (00D…). With it, pushes from another org are refused. Empty: not checked.')
param salesforceOrgId string = ''

@description('Whether Salesforce pushes its changes. The shared secret is made on deployment and kept in Key Vault.')
param salesforcePush bool = false

// -- how it behaves ---------------------------------------------------------------------------------------------------------------------

@description('shadow plans everything and writes to neither vendor; live writes. A first deployment is in shadow until you change it.')
@allowed(['shadow', 'live'])
param syncMode string = 'shadow'

@description('Who is mailed when an alert fires. docs/operations.md says what each means.')
@minLength(5)
param alertEmail string

@description('Memory of an instance in MB; it decides the CPU share too, and the bill.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('Most instances per function. Every one may make PARTNER_CENTER_CALLS_PER_MINUTE calls.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances kept warm for the HTTP functions. 0 scales to nothing: an event after a pause then waits for a cold start.')
@minValue(0)
@maxValue(20)
param alwaysReadyInstances int = 0

@description('Storage and Key Vault are reached through private endpoints only. The HTTP functions stay public, since Microsoft calls them.')
param privateNetworking bool = false

@description('With privateNetworking: the address from which you store secrets, such as 203.0.113.7. Empty: from inside the network only.')
param operatorIpAddress string = ''

@description('Minutes that owed work may be overdue, with nothing written, before the alert fires.')
@minValue(10)
@maxValue(1440)
param stuckAfterMinutes int = 30

@description('Copies of the storage account: what was agreed stands in its tables and nowhere else. Standard_LRS where a region has no zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
param storageRedundancy string = 'Standard_ZRS'

@description('Days the logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Bring back the vault of an environment of the same name that was removed before: it is kept for 90 days.')
param recoverVault bool = false

@description('Further app settings by name, such as {"WEBHOOK_TAKE_BACK": "true"}. README lists them all. Never a secret.')
param moreSettings object = {}

@description('Further tags for every resource.')
param moreTags object = {}

var token = uniqueString(subscription().id, environmentName, location)
var tags = union(moreTags, { 'azd-env-name': environmentName, application: 'cosell-connector' })

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-cosell-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  scope: group
  name: 'identity'
  params: {
    name: 'id-cosell-${environmentName}'
    location: location
    tags: tags
  }
}

module monitoring 'modules/monitoring.bicep' = {
  scope: group
  name: 'monitoring'
  params: {
    workspaceName: 'log-cosell-${environmentName}'
    insightsName: 'appi-cosell-${environmentName}'
    retentionDays: logRetentionDays
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  scope: group
  name: 'storage'
  params: {
    name: 'stcosell${token}'
    redundancy: storageRedundancy
    open: !privateNetworking
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: tags
  }
}

module vault 'modules/vault.bicep' = {
  scope: group
  name: 'vault'
  params: {
    name: 'kv-cosell-${token}'
    open: !privateNetworking
    operatorIpAddress: operatorIpAddress
    recover: recoverVault
    salesforceSecret: salesforceSignIn == 'privateKey' ? 'salesforce-private-key' : 'salesforce-client-secret'
    push: salesforcePush
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: tags
  }
}

module network 'modules/network.bicep' = if (privateNetworking) {
  scope: group
  name: 'network'
  params: {
    name: 'vnet-cosell-${environmentName}'
    storageId: storage.outputs.id
    vaultId: vault.outputs.id
    location: location
    tags: tags
  }
}

module roles 'modules/roles.bicep' = {
  scope: group
  name: 'roles'
  params: {
    identityPrincipalId: identity.outputs.principalId
    operatorId: operatorId
    operatorType: operatorType
    storageName: storage.outputs.name
    vaultName: vault.outputs.name
    salesforceSecret: vault.outputs.salesforceSecret
    push: salesforcePush
    insightsName: monitoring.outputs.insightsName
  }
}

// After the roles: a site that cannot read its storage or its secrets when it is made starts badly.
module app 'modules/app.bicep' = {
  scope: group
  name: 'app'
  dependsOn: [roles]
  params: {
    name: 'func-cosell-${environmentName}-${token}'
    planName: 'plan-cosell-${environmentName}'
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageName: storage.outputs.name
    packageContainer: storage.outputs.packageContainer
    vaultUri: vault.outputs.uri
    insightsConnectionString: monitoring.outputs.insightsConnectionString
    subnetId: privateNetworking ? network!.outputs.functionsSubnetId : ''
    partnerCenterTenantId: partnerCenterTenantId
    partnerCenterClientId: partnerCenterClientId
    salesforceLoginUrl: salesforceLoginUrl
    salesforceClientId: salesforceClientId
    salesforceUsername: salesforceUsername
    salesforceOrgId: salesforceOrgId
    salesforceSignIn: salesforceSignIn
    salesforcePush: salesforcePush
    syncMode: syncMode
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReadyInstances: alwaysReadyInstances
    moreSettings: moreSettings
    location: location
    tags: tags
  }
}

module alerts 'modules/alerts.bicep' = {
  scope: group
  name: 'alerts'
  params: {
    environmentName: environmentName
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
    stuckAfterMinutes: stuckAfterMinutes
    location: location
    tags: tags
  }
}

module workbook 'modules/workbook.bicep' = {
  scope: group
  name: 'workbook'
  params: {
    environmentName: environmentName
    workspaceId: monitoring.outputs.workspaceId
    location: location
    tags: tags
  }
}

// What the hooks read; azd keeps outputs in the environment's .env file, so none of them is secret.
output AZURE_RESOURCE_GROUP string = group.name
output FUNCTION_APP_NAME string = app.outputs.name
output FUNCTION_APP_ID string = app.outputs.id
output FUNCTION_APP_URL string = app.outputs.url
output IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
output KEY_VAULT_NAME string = vault.outputs.name
output KEY_VAULT_URI string = vault.outputs.uri
output SALESFORCE_SECRET string = vault.outputs.salesforceSecret
output SALESFORCE_PUSH bool = salesforcePush
output SYNC_MODE string = syncMode
