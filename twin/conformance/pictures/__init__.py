"""Pictures of the report: what is shown (`shown`), drawn as SVG (`svg`) and as PNG (`png`)."""
