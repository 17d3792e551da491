"""The search over base models and hyper-parameters: what is tried, by whom, for how long, and what came of it."""
