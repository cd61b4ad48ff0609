import Base
import ObjectModel

/// What an image says about running it: `config` of the OCI image configuration
/// (github.com/opencontainers/image-spec/blob/v1.0.2/config.md).
package struct ImageConfig: Sendable, Hashable {
  package var entrypoint: [String] = []
  package var command: [String] = []
  /// `NAME=value` each.
  package var environment: [String] = []
  package var workingDirectory = ""
  /// `name`, `uid`, `name:group` or `uid:gid`.
  package var user = ""
  /// `80/tcp` each.
  package var exposedPorts: [String] = []
  /// `SIGTERM`, `15` …; empty: SIGTERM.
  package var stopSignal = ""

  package init() {}

  /// From a whole image configuration document, or from what `value` gave.
  init(document: Value) {
    let config = document["config"]
    func strings(_ key: String) -> [String] { (config[key].array ?? []).compactMap(\.string) }
    entrypoint = strings("Entrypoint")
    command = strings("Cmd")
    environment = strings("Env")
    workingDirectory = config["WorkingDir"].string ?? ""
    user = config["User"].string ?? ""
    exposedPorts = config["ExposedPorts"].object?.keys ?? []
    stopSignal = config["StopSignal"].string ?? ""
  }

  var value: Value {
    func list(_ strings: [String]) -> Value { .array(strings.map { .string($0) }) }
    var ports = Value.Fields()
    for port in exposedPorts { ports[port] = .object([:]) }
    return [
      "config": [
        "Entrypoint": list(entrypoint), "Cmd": list(command), "Env": list(environment),
        "WorkingDir": .string(workingDirectory), "User": .string(user), "ExposedPorts": .object(ports),
        "StopSignal": .string(stopSignal),
      ]
    ]
  }

  /// What runs: as in Kubernetes, a `command` replaces the entrypoint and also drops the image's cmd; `arguments`
  /// alone replace the cmd.
  func argv(command: [String], arguments: [String]) -> [String] {
    if !command.isEmpty { return command + arguments }
    return entrypoint + (arguments.isEmpty ? self.command : arguments)
  }

  /// The number of the stop signal; SIGTERM if the image names none that exists.
  var stopSignalNumber: Int32 {
    if let number = Int32(stopSignal), (1...64).contains(number) { return number }
    let name = stopSignal.hasPrefix("SIG") ? String(stopSignal.dropFirst(3)) : stopSignal
    return Self.signals[name] ?? 15
  }

  /// Linux' numbers on x86 and ARM (signal(7)).
  private static let signals: [String: Int32] = [
    "HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "USR1": 10, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
    "CONT": 18, "STOP": 19, "WINCH": 28, "PWR": 30, "RTMIN": 34, "RTMIN+3": 37,
  ]
}
