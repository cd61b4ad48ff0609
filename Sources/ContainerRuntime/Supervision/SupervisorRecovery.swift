import Base
import EventLoop
import Glibc
import Logging

/// What a start after a crash, a kill or a reboot does with the containers of the data directory.
extension Supervisor {
  /// Reads the records, compares them with what runs, takes over exits that happened meanwhile, and removes what no
  /// record names. Helpers of the run before have been killed.
  func recover() async throws(SkerryError) {
    let layout = layout
    let found = try await blocking { () throws(SkerryError) -> [(id: String, record: ContainerRecord?)] in
      try Files.makeDirectory(layout.containers, mode: 0o711)
      try Files.makeDirectory(layout.exits, mode: 0o700)
      return Files.list(layout.containers).map { id in
        let value = try? Records.read(layout.containerRecord(id))
        return (id, value.flatMap { try? ContainerRecord($0) })
      }
    }
    for (id, record) in found {
      guard let record, record.id == id else {
        log.warning(
          RuntimeLog.recordUnreadable, "container \(id) has no readable record; what is left of it is removed")
        try await forget(id)
        continue
      }
      records[id] = record
      try await reconcile(record)
    }
    try await removeStrangers()
  }

  private func reconcile(_ record: ContainerRecord) async throws(SkerryError) {
    switch record.phase {
    case .exited, .unknown: return
    case .created:
      // Its configuration was in memory only; nothing has run.
      try await forget(record.id)
    case .starting: try await reconcileStarting(record)
    case .running: try await reconcileRunning(record)
    }
  }

  /// The crash came between the decision to start it and the record of its start.
  private func reconcileStarting(_ record: ContainerRecord) async throws(SkerryError) {
    if let ended = try await readExit(of: record) {
      var ended = ended
      ended.startedAt = ended.startedAt ?? ended.createdAt
      return try await save(ended)
    }
    let pidFile = layout.pidFile(record.id)
    let pid = try await blocking { () throws(SkerryError) -> Int32? in
      Files.readText(pidFile, limit: 64).flatMap { Int32($0.filter { !$0.isWhitespace }) }
    }
    if let pid, let ticks = try await ticks(pid), try await launcher.hasStarted(record) {
      var running = record
      running.pid = pid
      running.startTicks = ticks
      running.startedAt = try await blocking { () throws(SkerryError) in Processes.startTime(ticks: ticks) }
      running.phase = .running
      return try await save(running)
    }
    let mark = "\(Self.tokenMark)=\(record.token)"
    try await Processes.killMarked(mark, scheduler)
    try await forget(record.id)
  }

  private func reconcileRunning(_ record: ContainerRecord) async throws(SkerryError) {
    if let ended = try await readExit(of: record) { return try await save(ended) }
    if let pid = record.pid, let ticks = try await ticks(pid), record.startTicks == nil || record.startTicks == ticks {
      return
    }
    // It may have ended a moment ago, with conmon about to say so.
    let until = scheduler.now + Self.exitFileGrace
    while scheduler.now < until, try await monitorRuns(record) {
      if let ended = try await readExit(of: record) { return try await save(ended) }
      do { try await scheduler.sleep(for: .milliseconds(20)) } catch {
        throw SkerryError(.cancelled, "recovery was cancelled", cause: error)
      }
    }
    if let ended = try await readExit(of: record) { return try await save(ended) }
    var lost = record
    lost.phase = .unknown
    try await save(lost)
  }

  private func ticks(_ pid: Int32) async throws(SkerryError) -> UInt64? {
    try await blocking { () throws(SkerryError) in Processes.startTicks(pid) }
  }

  private func monitorRuns(_ record: ContainerRecord) async throws(SkerryError) -> Bool {
    let mark = "\(Self.tokenMark)=\(record.token)"
    return try await blocking { () throws(SkerryError) in !Processes.marked(mark).isEmpty }
  }

  /// What runs or is mounted under our names and has no record.
  private func removeStrangers() async throws(SkerryError) {
    for id in try await launcher.knownIDs() where records[id] == nil {
      log.warning(RuntimeLog.stranger, "container \(id) has no record and is removed")
      try await launcher.discard(id: id)
    }
    let (exits, known) = (layout.exits, Set(records.keys))
    try await blocking { () throws(SkerryError) in
      for name in Files.list(exits) where !known.contains(name) { try Files.removeFile("\(exits)/\(name)") }
    }
  }
}
