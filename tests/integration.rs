//! Whole-binary and API tests.
