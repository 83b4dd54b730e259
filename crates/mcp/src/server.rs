//! posthouse as an MCP server: the protocol; what the tools are is the caller's business.
