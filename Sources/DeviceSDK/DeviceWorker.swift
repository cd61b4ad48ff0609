import Base

/// Polls one device and runs its commands, one thing at a time, commands first.
///
/// A device that is away is left alone for a growing time; polls that fall due meanwhile become bad readings at once,
/// so that its series has no holes.
@LoopActor final class DeviceWorker {
  /// How long one poll may take in all.
  static let pollDeadline: Duration = .seconds(10)
  /// Commands that wait for their turn; beyond it they are refused, so that a silent device holds no memory.
  static let maxWaiting = 64

  let assignment: DeviceAssignment
  private let connection: any DriverConnection
  private let scheduler: any Scheduler
  private let random: any RandomSource
  private let polls: Counter
  private let report: @LoopActor ([Reading]) -> Void

  private var schedule = PollSchedule()
  private var backoff = DeviceBackoff()
  /// Until when the device is left alone, and why.
  private var away: (until: Instant, error: DriverError)?
  private var timer: TimerID?
  private var busy = false
  private var stopped = false
  private var waiting: [CheckedContinuation<Void, Never>] = []

  init(
    assignment: DeviceAssignment, connection: any DriverConnection, scheduler: any Scheduler,
    random: any RandomSource, polls: Counter, report: @escaping @LoopActor ([Reading]) -> Void
  ) {
    self.assignment = assignment
    self.connection = connection
    self.scheduler = scheduler
    self.random = random
    self.polls = polls
    self.report = report
  }

  /// Starts polling after `phase`; properties that cannot be used are reported once.
  func start(phase: Duration) {
    let problems = connection.problems
    report(
      problems.sorted { $0.key < $1.key }.map { name, error in
        reading(name, .failure(error))
      })
    var intervals: [String: Duration] = [:]
    for property in assignment.properties where problems[property.name] == nil {
      intervals[property.name] = .milliseconds(property.interval)
    }
    schedule.set(intervals, now: scheduler.now, phase: phase)
    pump()
  }

  /// Ends polling; the connection closes when what runs has ended.
  func stop() {
    stopped = true
    if let timer { scheduler.cancel(timer) }
    timer = nil
    if !busy { connection.close() }
  }

  // MARK: Turns

  private func acquire() async throws(DriverError) {
    guard !stopped else { throw DriverError(.unreachable, "device \(assignment.device) is not assigned any more") }
    if !busy {
      busy = true
      return
    }
    guard waiting.count < Self.maxWaiting else {
      throw DriverError(.unreachable, "device \(assignment.device) has \(waiting.count) commands waiting: try later")
    }
    await withCheckedContinuation { waiting.append($0) }
  }

  private func release() {
    if !waiting.isEmpty { return waiting.removeFirst().resume() }
    busy = false
    if stopped { connection.close() } else { pump() }
  }

  // MARK: Polls

  private func pump() {
    if let timer { scheduler.cancel(timer) }
    timer = nil
    guard !stopped, !busy, let due = schedule.nextDue else { return }
    let left = due - scheduler.now
    if left <= .zero { return poll() }
    timer = scheduler.schedule(after: left) { [weak self] in
      self?.timer = nil
      self?.pump()
    }
  }

  private func poll() {
    let now = scheduler.now
    let names = schedule.takeDue(now: now)
    if let away, now < away.until {
      let error = DriverError(
        away.error.kind, "\(away.error.message); next try in \((away.until - now).milliseconds) ms")
      report(names.map { reading($0, .failure(error)) })
      return pump()
    }
    busy = true
    polls.add()
    spawn { [self] in
      let results = await ask(names, deadline: Self.pollDeadline)
      settle(results)
      report(names.map { reading($0, results[$0] ?? .failure(DriverError(.refused, "the driver gave no answer"))) })
      release()
    }
  }

  private func ask(_ names: [String], deadline: Duration) async -> [String: Result<Sample, DriverError>] {
    let until = scheduler.now + deadline
    do throws(DriverError) {
      try await connection.open(deadline: deadline)
      return await connection.read(names, deadline: max(.milliseconds(1), until - scheduler.now))
    } catch {
      return Dictionary(names.map { ($0, .failure(error)) }) { first, _ in first }
    }
  }

  /// Learns from an answer whether the device is there: it is away when everything that was asked failed that way.
  private func settle(_ results: [String: Result<Sample, DriverError>]) {
    var outage: DriverError?
    for result in results.values {
      guard case .failure(let error) = result, error.isOutage else { return settled() }
      outage = error
    }
    if let outage { failed(outage) }
  }

  private func settled() {
    backoff.succeeded()
    away = nil
  }

  private func failed(_ error: DriverError) {
    away = (scheduler.now + backoff.failed(random: random.next()), error)
  }

  private func reading(_ name: String, _ result: Result<Sample, DriverError>) -> Reading {
    let time = scheduler.wall.nanoseconds / 1_000_000
    switch result {
    case .success(let sample):
      return Reading(
        device: assignment.device, property: name, type: sample.type, value: sample.value, quality: .good, time: time)
    case .failure(let error):
      return Reading(
        device: assignment.device, property: name, type: connection.reportedType(name) ?? .string, value: .null,
        quality: .bad(error.message), time: time)
    }
  }

  // MARK: Commands

  /// Reads a property now; what it holds is also reported as a reading.
  func read(_ property: String, deadline: Duration) async throws(DriverError) -> Sample {
    let left = try await turn(deadline)
    defer { release() }
    let results = await ask([property], deadline: left)
    settle(results)
    guard let result = results[property] else { throw DriverError(.refused, "the driver gave no answer") }
    if connection.reportedType(property) != nil { report([reading(property, result)]) }
    return try result.get()
  }

  /// Writes a property; what reads back is also reported as a reading.
  func write(
    _ property: String, value: Value, onlyIfDifferent: Bool, deadline: Duration
  ) async throws(DriverError) -> WriteOutcome {
    let left = try await turn(deadline)
    let until = scheduler.now + left
    defer { release() }
    do throws(DriverError) {
      try await connection.open(deadline: left)
      let rest = until - scheduler.now
      guard rest > .zero else {
        throw DriverError(.expired, "the deadline passed while device \(assignment.device) was connected to")
      }
      let outcome = try await connection.write(
        property, value: value, onlyIfDifferent: onlyIfDifferent, deadline: rest)
      settled()
      if let type = connection.reportedType(property) {
        report([reading(property, .success(Sample(type: type, value: outcome.after)))])
      }
      return outcome
    } catch {
      if error.isOutage { failed(error) }
      throw error
    }
  }

  /// Waits for this command's turn; answers the time that is left for it.
  private func turn(_ deadline: Duration) async throws(DriverError) -> Duration {
    let until = scheduler.now + deadline
    try await acquire()
    let left = until - scheduler.now
    guard left > .zero else {
      release()
      throw DriverError(.expired, "the deadline passed while device \(assignment.device) was busy")
    }
    return left
  }
}
