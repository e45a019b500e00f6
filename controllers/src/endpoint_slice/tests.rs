//! Plans of one Service.
