// Who may do what, each on one resource. Nothing is granted on the resource group or the subscription.
param identityPrincipalId string
param operatorId string
param operatorType string
param storageName string
param vaultName string
param salesforceSecret string
param push bool
param insightsName string

// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
var roleIds = {
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  'Key Vault Reader': '21090545-7ca7-4776-b22c-e363652d74d2'
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6'
  'Key Vault Secrets Officer': 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb'
}

resource storage 'Microsoft.Storage/storageAccounts@2026-04-01' existing = {
  name: storageName
}

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName

  resource refreshToken 'secrets' existing = {
    name: 'partner-center-refresh-token'
  }

  resource salesforce 'secrets' existing = {
    name: salesforceSecret
  }

  resource pushSecret 'secrets' existing = {
    name: 'salesforce-push-secret'
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// The host keeps its locks and keys in blobs, and takes the package from there; it asks for Owner, Contributor is not enough.
resource hostAndPackage 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identityPrincipalId, 'Storage Blob Data Owner')
  scope: storage
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Storage Blob Data Owner'])
  }
}

resource wakeUps 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identityPrincipalId, 'Storage Queue Data Contributor')
  scope: storage
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Storage Queue Data Contributor'])
  }
}

resource state 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(storage.id, identityPrincipalId, 'Storage Table Data Contributor')
  scope: storage
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Storage Table Data Contributor'])
  }
}

// The one secret that the app writes: the refresh token rotates.
resource rotation 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault::refreshToken.id, identityPrincipalId, 'Key Vault Secrets Officer')
  scope: vault::refreshToken
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Key Vault Secrets Officer'])
  }
}

// When secrets end, for the doctor: names and dates, no values.
resource expiries 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, identityPrincipalId, 'Key Vault Reader')
  scope: vault
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Key Vault Reader'])
  }
}

resource salesforceSignIn 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault::salesforce.id, identityPrincipalId, 'Key Vault Secrets User')
  scope: vault::salesforce
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Key Vault Secrets User'])
  }
}

resource pushes 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (push) {
  name: guid(vault::pushSecret.id, identityPrincipalId, 'Key Vault Secrets User')
  scope: vault::pushSecret
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Key Vault Secrets User'])
  }
}

resource telemetry 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identityPrincipalId, 'Monitoring Metrics Publisher')
  scope: insights
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Monitoring Metrics Publisher'])
  }
}

// Whoever stores the Salesforce key and makes the first sign-in.
resource operator 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(operatorId)) {
  name: guid(vault.id, operatorId, 'Key Vault Secrets Officer')
  scope: vault
  properties: {
    principalId: operatorId
    principalType: operatorType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds['Key Vault Secrets Officer'])
  }
}
