"""The verbs over a snapshot store, one module each; `arguments` says what they can be told."""
