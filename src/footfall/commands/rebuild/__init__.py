"""`footfall rebuild`: the database made anew, from what else holds its contents."""
