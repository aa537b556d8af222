// The vault and its secrets. A secret is made once, with a placeholder that the connector reads as "not set"; its value is stored by the
// hooks and by the first sign-in, and no later deployment touches it.
param name string
@description('Whether it can be reached from outside the private network; every caller shows an identity in either case.')
param open bool
param operatorIpAddress string
param recover bool
@description('Name of the secret that Salesforce is signed in to with.')
param salesforceSecret string
param push bool
param workspaceId string
param location string
param tags object

var placeholder = '<not stored yet>'
var operatorOnly = !open && !empty(operatorIpAddress)

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    createMode: recover ? 'recover' : 'default'
    publicNetworkAccess: open || operatorOnly ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: open ? 'Allow' : 'Deny'
      // Lets a deployment make the secrets.
      bypass: 'AzureServices'
      ipRules: operatorOnly ? [{ value: operatorIpAddress }] : []
    }
  }
}

@onlyIfNotExists()
resource refreshToken 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: vault
  name: 'partner-center-refresh-token'
  properties: { value: placeholder }
}

@onlyIfNotExists()
resource salesforce 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = {
  parent: vault
  name: salesforceSecret
  properties: { value: placeholder }
}

@onlyIfNotExists()
resource pushSecret 'Microsoft.KeyVault/vaults/secrets@2026-02-01' = if (push) {
  parent: vault
  name: 'salesforce-push-secret'
  properties: { value: placeholder }
}

// Who read or wrote a secret.
resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      { categoryGroup: 'audit', enabled: true }
    ]
  }
}

output id string = vault.id
output name string = vault.name
output uri string = vault.properties.vaultUri
output salesforceSecret string = salesforce.name
