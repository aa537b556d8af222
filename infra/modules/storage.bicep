// The account of AzureWebJobsStorage: the connector's tables and queue, the host's own blobs, and the deployed package. No keys.
param name string
param redundancy string
@description('Whether it can be reached from outside the private network; every caller shows an identity in either case.')
param open bool
param workspaceId string
param location string
param tags object

resource account 'Microsoft.Storage/storageAccounts@2026-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: redundancy }
  properties: {
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: open ? 'Enabled' : 'Disabled'
    networkAcls: {
      defaultAction: open ? 'Allow' : 'Deny'
      bypass: 'None'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: { enabled: true, days: 7 }
    }

    resource package 'containers' = {
      name: 'package'
      properties: { publicAccess: 'None' }
    }
  }

  resource queues 'queueServices' = {
    name: 'default'

    resource wakeUps 'queues' = {
      name: 'synchronize-deal'
    }

    // The host would make it when the first message fails for good.
    resource poison 'queues' = {
      name: 'synchronize-deal-poison'
    }
  }

  resource tables 'tableServices' = {
    name: 'default'

    resource links 'tables' = {
      name: 'links'
    }

    resource owed 'tables' = {
      name: 'owed'
    }

    resource cursors 'tables' = {
      name: 'cursors'
    }

    resource history 'tables' = {
      name: 'history'
    }
  }
}

// Who deleted rows: what was agreed stands in these tables and nowhere else.
resource deletions 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'deletions'
  scope: account::tables
  properties: {
    workspaceId: workspaceId
    logs: [
      { category: 'StorageDelete', enabled: true }
    ]
  }
}

output id string = account.id
output name string = account.name
output packageContainer string = account::blobs::package.name
