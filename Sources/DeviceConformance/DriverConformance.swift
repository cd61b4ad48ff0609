import Base
import DeviceSDK

/// What a driver's device must offer to the suite, whatever its protocol.
package struct DriverFixture {
  /// A device that answers.
  package var device: DeviceAssignment
  /// Properties that can be read, with what they hold.
  package var expected: [String: Sample]
  /// A property that can be written, and two values that it takes; it holds neither at first.
  package var writable: (property: String, first: Value, second: Value)
  /// A value that the writable property refuses.
  package var refusedValue: Value
  /// A property that can be read and not written.
  package var readOnly: String
  /// A property that the device refuses to answer.
  package var refused: String
  /// A property whose configuration is wrong.
  package var misconfigured: String
  /// A property whose answer takes much longer than `patience` and `margin` together.
  package var stalled: String
  /// A device of the same driver at an address where nobody answers.
  package var unreachable: DeviceAssignment
  /// A device whose configuration is of no use as a whole.
  package var invalid: DeviceAssignment
  /// The deadline of the calls that are to be cut short.
  package var patience: Duration

  package init(
    device: DeviceAssignment, expected: [String: Sample], writable: (property: String, first: Value, second: Value),
    refusedValue: Value, readOnly: String, refused: String, misconfigured: String, stalled: String,
    unreachable: DeviceAssignment, invalid: DeviceAssignment, patience: Duration
  ) {
    self.device = device
    self.expected = expected
    self.writable = writable
    self.refusedValue = refusedValue
    self.readOnly = readOnly
    self.refused = refused
    self.misconfigured = misconfigured
    self.stalled = stalled
    self.unreachable = unreachable
    self.invalid = invalid
    self.patience = patience
  }
}

/// The one suite that every driver passes, fakes too. It answers what failed, in words; empty is a pass.
@LoopActor package final class DriverConformance {
  private let driver: any Driver
  private let fixture: DriverFixture
  private let scheduler: any Scheduler
  private var failures: [String] = []
  /// How long a call that should succeed may take.
  private static let generous: Duration = .seconds(5)
  /// How much later than its deadline a call may end on a machine that is busy.
  private static let margin: Duration = .seconds(5)

  package init(driver: any Driver, fixture: DriverFixture, scheduler: any Scheduler) {
    self.driver = driver
    self.fixture = fixture
    self.scheduler = scheduler
  }

  package func run() async -> [String] {
    await check("configuration") { () async throws(DriverError) in try self.configuration() }
    await check("reading") { () async throws(DriverError) in try await self.reading() }
    await check("one bad property") { () async throws(DriverError) in try await self.oneBadProperty() }
    await check("writing") { () async throws(DriverError) in try await self.writing() }
    await check("refused writes") { () async throws(DriverError) in try await self.refusedWrites() }
    await check("an outage") { () async throws(DriverError) in try await self.outage() }
    await check("a deadline") { () async throws(DriverError) in try await self.deadline() }
    await check("reopening") { () async throws(DriverError) in try await self.reopening() }
    return failures
  }

  private func check(_ what: String, _ body: () async throws(DriverError) -> Void) async {
    current = what
    do throws(DriverError) {
      try await body()
    } catch {
      fail("threw \(error.kind): \(error)")
    }
  }
  private var current = ""
  private func fail(_ words: String) { failures.append("\(current): \(words)") }
  private func expect(_ condition: Bool, _ words: @autoclosure () -> String) { if !condition { fail(words()) } }

  private func expectError(
    _ kind: DriverError.Kind?, _ doing: String, _ body: () async throws(DriverError) -> Void
  ) async {
    do throws(DriverError) {
      try await body()
      fail("\(doing) succeeded")
    } catch {
      expect(kind.map { $0 == error.kind } ?? error.isOutage, "\(doing) failed as \(error.kind): \(error)")
      expect(!error.message.isEmpty, "\(doing) failed without words")
    }
  }

  private func configuration() throws(DriverError) {
    do throws(DriverError) {
      _ = try driver.connection(to: fixture.invalid)
      fail("an invalid device was accepted")
    } catch {
      expect(error.kind == .configuration, "an invalid device was refused as \(error.kind)")
      expect(error.message.contains(fixture.invalid.device), "the error does not name the device: \(error)")
    }
    let connection = try driver.connection(to: fixture.device)
    expect(
      Array(connection.problems.keys) == [fixture.misconfigured], "problems are \(connection.problems.keys.sorted())")
    let words = connection.problems[fixture.misconfigured]?.message ?? ""
    expect(words.contains(fixture.misconfigured), "the problem does not name the property: \(words)")
    for (name, sample) in fixture.expected {
      expect(connection.reportedType(name) == sample.type, "\(name) is reported as another type than it is read")
    }
    expect(connection.reportedType(fixture.misconfigured) != nil, "a misconfigured property has no type")
    expect(connection.reportedType("no such property") == nil, "an unknown property has a type")
  }

  private func opened() async throws(DriverError) -> any DriverConnection {
    let connection = try driver.connection(to: fixture.device)
    try await connection.open(deadline: Self.generous)
    return connection
  }

  private func reading() async throws(DriverError) {
    let connection = try await opened()
    defer { connection.close() }
    try await connection.open(deadline: Self.generous)  // does nothing
    let names = fixture.expected.keys.sorted()
    let all = await connection.read(names, deadline: Self.generous)
    for name in names {
      expect(all[name] == fixture.expected[name].map { .success($0) }, "\(name) read \(String(describing: all[name]))")
      let alone = await connection.read([name], deadline: Self.generous)
      expect(alone.count == 1 && alone[name] == all[name], "\(name) alone read \(String(describing: alone[name]))")
    }
    expect(await connection.read([], deadline: Self.generous).isEmpty, "reading nothing answered something")
  }

  private func oneBadProperty() async throws(DriverError) {
    let connection = try await opened()
    defer { connection.close() }
    let names = fixture.expected.keys.sorted()
    let bad = [fixture.refused, fixture.misconfigured, "no such property"]
    let all = await connection.read(names + bad, deadline: Self.generous)
    expect(all.count == names.count + bad.count, "\(all.count) answers to \(names.count + bad.count) properties")
    for name in names { expect(all[name] == fixture.expected[name].map { .success($0) }, "\(name) was spoilt") }
    expect(all[fixture.refused]?.failure?.kind == .refused, "the refused property answered otherwise")
    for name in bad.dropFirst() {
      expect(all[name]?.failure?.kind == .configuration, "\(name) answered \(String(describing: all[name]))")
    }
  }

  private func writing() async throws(DriverError) {
    let connection = try await opened()
    defer { connection.close() }
    let (name, first, second) = fixture.writable
    let one = try await connection.write(name, value: first, onlyIfDifferent: false, deadline: Self.generous)
    expect(one.written && one.after == first, "after writing \(first) it is \(one.after)")
    let two = try await connection.write(name, value: second, onlyIfDifferent: true, deadline: Self.generous)
    expect(two.written && two.before == first && two.after == second, "the second write did \(two)")
    let same = try await connection.write(name, value: second, onlyIfDifferent: true, deadline: Self.generous)
    expect(!same.written && same.before == second && same.after == second, "an equal value did \(same)")
    let again = try await connection.write(name, value: second, onlyIfDifferent: false, deadline: Self.generous)
    expect(again.written, "an unconditional write was left out")
    let read = await connection.read([name], deadline: Self.generous)
    expect((try? read[name]?.get())?.value == second, "\(String(describing: read[name])) reads back")
  }

  private func refusedWrites() async throws(DriverError) {
    let connection = try await opened()
    defer { connection.close() }
    let name = fixture.writable.property
    await expectError(.value, "writing a value that does not fit") { () async throws(DriverError) in
      _ = try await connection.write(
        name, value: self.fixture.refusedValue, onlyIfDifferent: false, deadline: Self.generous)
    }
    let read = await connection.read([name], deadline: Self.generous)
    expect((try? read[name]?.get())?.value == fixture.writable.second, "a refused write changed the device")
    for property in [fixture.readOnly, fixture.misconfigured, "no such property"] {
      await expectError(.configuration, "writing \(property)") { () async throws(DriverError) in
        _ = try await connection.write(property, value: 1, onlyIfDifferent: false, deadline: Self.generous)
      }
    }
  }

  private func outage() async throws(DriverError) {
    let connection = try driver.connection(to: fixture.unreachable)
    defer { connection.close() }
    let start = scheduler.now
    await expectError(nil, "opening a device that is away") { () async throws(DriverError) in
      try await connection.open(deadline: self.fixture.patience)
    }
    let names = fixture.unreachable.properties.map(\.name)
    let all = await connection.read(names, deadline: fixture.patience)
    for name in names where name != fixture.misconfigured {
      expect(all[name]?.failure?.isOutage == true, "\(name) answered \(String(describing: all[name]))")
    }
    let took = scheduler.now - start
    expect(took < fixture.patience * 2 + Self.margin, "an outage took \(took)")
  }

  private func deadline() async throws(DriverError) {
    let connection = try await opened()
    defer { connection.close() }
    let start = scheduler.now
    let stalled = await connection.read([fixture.stalled], deadline: fixture.patience)
    let took = scheduler.now - start
    expect(stalled[fixture.stalled]?.failure?.kind == .timeout, "a late answer was \(stalled)")
    expect(took < fixture.patience + Self.margin, "a deadline of \(fixture.patience) took \(took)")
    // The late answer is never taken for the next one.
    let names = fixture.expected.keys.sorted()
    let all = await connection.read(names, deadline: Self.generous)
    for name in names {
      expect(
        all[name] == fixture.expected[name].map { .success($0) },
        "afterwards \(name) read \(String(describing: all[name]))")
    }
  }

  private func reopening() async throws(DriverError) {
    let connection = try await opened()
    connection.close()
    connection.close()  // does nothing
    try await connection.open(deadline: Self.generous)
    let name = fixture.readOnly
    let read = await connection.read([name], deadline: Self.generous)
    expect(read[name] == fixture.expected[name].map { .success($0) }, "after reopening \(name) read \(read)")
    connection.close()
  }
}

extension Result {
  fileprivate var failure: Failure? { if case .failure(let error) = self { error } else { nil } }
}
