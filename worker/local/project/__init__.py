"""New projects, as `entrepot init` makes them: of files that somebody has, or of a template."""
