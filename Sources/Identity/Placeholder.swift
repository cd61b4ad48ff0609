// Identity: see docs/architecture.md
