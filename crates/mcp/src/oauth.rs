//! How a user signs in to an MCP server: discovery, registration, consent, tokens.
