"""The template, and the hooks that azd runs around it."""
