// The function app on a Flex Consumption plan, and its settings.
param name string
param planName string
param identityId string
param identityClientId string
param storageName string
param packageContainer string
param vaultUri string
param insightsConnectionString string
@description('Subnet the app calls out from; empty without private networking.')
param subnetId string
param partnerCenterTenantId string
param partnerCenterClientId string
param salesforceLoginUrl string
param salesforceClientId string
param salesforceUsername string
param salesforceOrgId string
param salesforceSignIn string
param salesforcePush bool
param syncMode string
param instanceMemoryMB int
param maximumInstanceCount int
param alwaysReadyInstances int
param moreSettings object
param location string
param tags object

resource storage 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { tier: 'FlexConsumption', name: 'FC1' }
  properties: { reserved: true }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'connector' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    // Else references to Key Vault are looked up with an identity that the app does not have.
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      cors: { allowedOrigins: [] }
    }
    functionAppConfig: {
      runtime: { name: 'python', version: '3.13' }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.properties.primaryEndpoints.blob}${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReadyInstances == 0 ? [] : [{ name: 'http', instanceCount: alwaysReadyInstances }]
        // Python's default is one request an instance: a burst of events would start an instance for each.
        triggers: { http: { perInstanceConcurrency: 16 } }
      }
    }
  }

  // One after the other: Azure refuses a second change of a site while the first is under way.
  resource noFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: { allow: false }
  }

  resource noScmPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: { allow: false }
    dependsOn: [noFtp]
  }
}

// Key Vault references are looked up again after every change of a setting, when the hooks ask for it, and once a day.
var salesforceSecrets = salesforceSignIn == 'privateKey' ? {
  SALESFORCE_PRIVATE_KEY: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/salesforce-private-key)'
} : {
  SALESFORCE_CLIENT_SECRET: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/salesforce-client-secret)'
}
var pushSecrets = salesforcePush ? {
  SALESFORCE_PUSH_SECRET: '@Microsoft.KeyVault(SecretUri=${vaultUri}secrets/salesforce-push-secret)'
} : {}

// All of them: a setting that was changed in the portal goes back to what stands here with the next deployment.
resource settings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  dependsOn: [app::noScmPassword]
  properties: union(salesforceSecrets, pushSecrets, moreSettings, {
    // One for each message that host.json lets an instance hold: batchSize and newBatchThreshold.
    PYTHON_THREADPOOL_THREAD_COUNT: '24'
    AzureWebJobsStorage__blobServiceUri: storage.properties.primaryEndpoints.blob
    AzureWebJobsStorage__tableServiceUri: storage.properties.primaryEndpoints.table
    AzureWebJobsStorage__queueServiceUri: storage.properties.primaryEndpoints.queue
    AzureWebJobsStorage__clientId: identityClientId
    AzureWebJobsStorage__credential: 'managedidentity'
    APPLICATIONINSIGHTS_CONNECTION_STRING: insightsConnectionString
    APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
    PARTNER_CENTER_TENANT_ID: partnerCenterTenantId
    PARTNER_CENTER_CLIENT_ID: partnerCenterClientId
    PARTNER_CENTER_FEDERATED_IDENTITY_CLIENT_ID: identityClientId
    KEY_VAULT_URI: vaultUri
    SALESFORCE_LOGIN_URL: salesforceLoginUrl
    SALESFORCE_CLIENT_ID: salesforceClientId
    SALESFORCE_USERNAME: salesforceUsername
    SALESFORCE_ORG_ID: salesforceOrgId
    SYNC_MODE: syncMode
    SALESFORCE_POLL_SCHEDULE: moreSettings.?SALESFORCE_POLL_SCHEDULE ?? '*/15 * * * * *'
    SOLUTIONS_POLL_SCHEDULE: moreSettings.?SOLUTIONS_POLL_SCHEDULE ?? '5/15 * * * * *'
    PARTNER_CENTER_POLL_SCHEDULE: moreSettings.?PARTNER_CENTER_POLL_SCHEDULE ?? '0 */5 * * * *'
    RESUME_SCHEDULE: moreSettings.?RESUME_SCHEDULE ?? '30 * * * * *'
    RECONCILE_SCHEDULE: moreSettings.?RECONCILE_SCHEDULE ?? '0 0 3 * * *'
  })
}

output id string = app.id
output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
