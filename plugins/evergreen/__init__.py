"""What Airflow needs from Evergreen: the table of steps as Airflow tasks, and heavy steps in processes of their own."""
