"""GraphiQL, the API's page for people, served from this package alone: no CDN, no inline script."""
