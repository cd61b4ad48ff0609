// Store: see docs/architecture.md
