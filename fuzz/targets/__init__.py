"""The targets, a module each: what is called, with what it begins, and what must hold whatever comes."""
