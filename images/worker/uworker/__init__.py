"""The worker: takes jobs from the job service, runs the job command on each, and reports what came of it."""
