import Base

/// The codes of this room's log lines; docs/operations.md lists what each means and what to do.
enum RuntimeLog {
  static let recordUnreadable = LogCode("W-RUN-001")
  static let stranger = LogCode("W-RUN-002")
  static let exitUnrecorded = LogCode("E-RUN-003")
  static let monitorLost = LogCode("W-RUN-004")
  static let killFailed = LogCode("E-RUN-005")
  static let housekeeping = LogCode("W-RUN-006")
  static let cleanup = LogCode("W-RUN-007")
}
