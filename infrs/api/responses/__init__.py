"""`/v1/responses`: requests, items, stored responses and the presenter of answers."""
