"""The data gate's expectations: what breaks text models, as Great Expectations classes, and the running of a suite."""
