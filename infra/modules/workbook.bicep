// What `GET /api/status` knows, over time, for whoever has the portal open.
param environmentName string
param workspaceId string
param location string
param tags object

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(workspaceId, 'cosell-connector')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Co-sell connector, ${environmentName}'
    category: 'workbook'
    sourceId: workspaceId
    serializedData: loadTextContent('workbook.json')
  }
}

output id string = workbook.id
