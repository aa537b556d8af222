"""Partner Center, Entra and Salesforce, played strictly. Imports nothing from the connector."""
