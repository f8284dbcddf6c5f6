"""What names a version: the identity of code, expressions, estimators and tables."""
