"""What a task does in its worker, whichever operator it is: arguments, submitting, waiting, its record, cancelling."""
