#pragma once
#include <sqlite3.h>

// What Swift cannot import: casts in macros and variadic functions.

/// Tells SQLite to copy a bound value before the call returns.
static inline sqlite3_destructor_type skerry_sqlite_transient(void) { return SQLITE_TRANSIENT; }

/// sqlite3_db_config for the options that take one flag.
static inline int skerry_sqlite_config_flag(sqlite3 *db, int option, int on) {
  return sqlite3_db_config(db, option, on, (int *)0);
}
