"""The site: every board as static pages that load nothing but themselves."""
