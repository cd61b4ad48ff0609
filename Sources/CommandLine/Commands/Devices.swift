import API
import ArgumentParser
import Base
import ObjectModel

struct Readings: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print what a device reported.", discussion: "skerry readings thermometer --tail 20 -f")
  @OptionGroup var globals: GlobalOptions
  @Flag(name: [.customShort("f"), .long], help: "Go on with every new reading.") var follow = false
  @Option(name: .long, help: "How many of the newest (20 if neither this nor --after is given).") var tail: Int64?
  @Option(name: .long, help: "The oldest above this number instead, at most 1000: the next page.") var after: Int64?
  @Option(name: .long, help: "Only of this property.") var property: String?
  @Option(name: [.customShort("o"), .long], help: "json prints one object a line.") var output: String?
  @Argument(help: "The device.") var device: String

  /// How many readings are shown when nobody says how many.
  static let usualTail: Int64 = 20
  /// How often `-f` asks for more.
  static let interval = Duration.milliseconds(500)

  func execute(_ environment: Environment) async throws {
    guard output == nil || output == "json" else {
      throw SkerryError(.invalidArgument, "readings are printed as a table or with -o json")
    }
    guard tail == nil || after == nil else { throw SkerryError(.invalidArgument, "take either --tail or --after") }
    let reference = environment.reference(.device, device.split(separator: "/").last.map(String.init) ?? device)
    let limit = tail ?? (after == nil ? Self.usualTail : ConnectCall.maxReadings)
    var options: Value = ["limit": .int(max(0, min(limit, ConnectCall.maxReadings)))]
    if let after { options["after"] = .int(after) }
    if let property { options["property"] = .string(property) }
    var table = Table(["Number", "Time", "Property", "Value", "Quality"])
    var hasHeader = false
    var lastGap: Int64 = 0
    while true {
      let page = try await environment.api().connect(
        reference, subresource: "readings", options: options, stream: nil, caller: environment.caller)
      let items = page["items"].array ?? []
      // A series may outlive its device; where there is neither, say so.
      if items.isEmpty, options["after"].isNull { _ = try await environment.get(reference) }
      if output == "json" {
        for item in items { environment.console.print(JSON.print(item)) }
      } else if !items.isEmpty || !hasHeader {
        table.rows = items.map(Self.row)
        environment.console.printText(table.text(withHeader: !hasHeader))
        hasHeader = true
      }
      for gap in page["gaps"].array ?? [] where gap["id"].int ?? 0 > lastGap {
        lastGap = gap["id"].int ?? 0
        environment.console.note(Self.text(of: gap))
      }
      guard follow else { return }
      options["after"] = page["next"].isNull ? .int(items.last?["number"].int ?? 0) : page["next"]
      options["limit"] = .int(ConnectCall.maxReadings)
      if Int64(items.count) < ConnectCall.maxReadings { try await environment.scheduler.sleep(for: Self.interval) }
    }
  }

  /// What a node let go is no reading, so it is told beside them.
  static func text(of gap: Value) -> String {
    "behind reading \(gap["after"].int ?? 0), \(gap["count"].int ?? 0) readings of node \(gap["node"].string ?? "") are "
      + "missing: the node let them go (its numbers \(gap["from"].int ?? 0) to \(gap["to"].int ?? 0))"
  }

  static func row(_ item: Value) -> [String] {
    let time = item["time"].int ?? 0
    return [
      String(item["number"].int ?? 0), Timestamp.formatMicros(WallTime(nanoseconds: time * 1_000_000)),
      item["property"].string ?? "", ObjectTable.text(item["value"]), item["quality"].string ?? "",
    ]
  }
}

struct DeviceCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "device", abstract: "Read or write a property of a device now.",
    subcommands: [GetProperty.self, SetProperty.self])

  struct GetProperty: ClusterCommand {
    static let configuration = CommandConfiguration(commandName: "get", abstract: "Read a property.")
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "Seconds the device may take.") var timeout = ConnectCall.commandTimeout
    @Argument(help: "The device.") var device: String
    @Argument(help: "The property.") var property: String
    func execute(_ environment: Environment) async throws {
      let result = try await DeviceCommand.run(
        device, ["verb": "get", "property": .string(property), "timeoutSeconds": .int(timeout)], environment)
      environment.console.print(ObjectTable.text(result["value"]))
    }
  }

  struct SetProperty: ClusterCommand {
    static let configuration = CommandConfiguration(
      commandName: "set", abstract: "Write a property; the answer comes when the device has it.")
    @OptionGroup var globals: GlobalOptions
    @Option(name: .long, help: "Seconds the device may take.") var timeout = ConnectCall.commandTimeout
    @Argument(help: "The device.") var device: String
    @Argument(help: "The property.") var property: String
    @Argument(help: "The value.") var value: String
    func execute(_ environment: Environment) async throws {
      let result = try await DeviceCommand.run(
        device,
        [
          "verb": "set", "property": .string(property), "value": .string(value), "timeoutSeconds": .int(timeout),
        ], environment)
      let now = result["value"].isNull ? value : ObjectTable.text(result["value"])
      environment.console.print("\(device) \(property) = \(now)")
    }
  }

  @LoopActor static func run(_ device: String, _ options: Value, _ environment: Environment) async throws -> Value {
    try await environment.api().connect(
      environment.reference(.device, device), subresource: "command", options: options, stream: nil,
      caller: environment.caller)
  }
}
