"""`/v1/responses`: requests, items, stored responses, their conversion to neutral form, and the presenter."""
