"""The page "Evergreen" in Airflow's navigation: every pipeline, what serves, how it got there, and two buttons."""
