-- Loaded by busted before the specs: a failing assertion shows long strings
-- whole, and random order would hide what a test leaves behind.
require("luassert"):set_parameter("TableFormatLevel", 5)
