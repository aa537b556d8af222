"""What azd runs before and after a deployment (azure.yaml); plain Python, nothing to install."""
