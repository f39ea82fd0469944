"""The only SQL: schema, engine, and one module per group of tables."""
