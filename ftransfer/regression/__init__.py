"""Labels that are numbers: a task, a score without target labels, the guard, a report and a race of regressors."""
