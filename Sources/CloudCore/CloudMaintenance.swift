import Base
import CloudHub
import EventLoop
import Identity
import ObjectLog

/// What a cloudcore's program does with its data besides serving: it copies, restores or checks them, and ends.
package enum CloudMaintenance: Sendable {
  /// `--backup FILE`: a copy of the objects, and in `FILE.readings` one of the readings, also while the daemon runs.
  case backup(to: String)
  /// `--restore FILE`: puts a copy in place as a new epoch, and its readings if `FILE.readings` is there; the daemon
  /// must not run.
  case restore(from: String)
  /// `--check`: reads everything once, also while the daemon runs.
  case check

  /// How it is called, for `--help`.
  package static let usage = "[--backup FILE | --restore FILE | --check]"

  /// Takes its arguments out of a command line; nil if the daemon is to serve.
  package static func take(from arguments: inout [String]) throws(SkerryError) -> CloudMaintenance? {
    var found: [CloudMaintenance] = []
    var rest: [String] = []
    var source = arguments[...]
    while let argument = source.popFirst() {
      switch argument {
      case "--check": found.append(.check)
      case "--backup", "--restore":
        guard let file = source.popFirst() else { throw SkerryError(.invalidArgument, "\(argument) needs a file") }
        found.append(argument == "--backup" ? .backup(to: file) : .restore(from: file))
      default: rest.append(argument)
      }
    }
    guard found.count <= 1 else {
      throw SkerryError(.invalidArgument, "one of --backup, --restore and --check at a time")
    }
    arguments = rest
    return found.first
  }

  /// Does it, on the calling thread, and answers what to tell.
  package func run(_ configuration: CloudConfiguration, random: any RandomSource) throws(SkerryError) -> String {
    let (path, readings) = (configuration.objects, configuration.readings)
    if case .restore(let file) = self { return try restore(file, configuration, random) }
    guard Files.exists(path) else { throw SkerryError(.notFound, "\(path) does not exist; nothing was ever stored") }
    let report: LogCheck.Report
    let what: String
    var count: Int64 = 0
    if case .backup(let file) = self {
      report = try LogBackup.run(from: path, to: file)
      if Files.exists(readings) { count = try ReadingsArchive.backup(from: readings, to: Self.readings(of: file)) }
      what = "\(file) and \(Self.readings(of: file)) hold"
    } else {
      let ring = try KeyRing.loadOrCreate(path: ClusterPKI.sealingKeys(in: configuration.pki), random: random)
      report = try LogCheck.run(path: path, sealing: Sealer(ring: ring, random: random))
      if Files.exists(readings) { count = try ReadingsArchive.check(path: readings) }
      what = "\(path) is sound:"
    }
    return "\(what) \(report.objects) objects in \(report.versions) versions, \(report.sealed) of them sealed, "
      + "through revision \(report.cursor.position), and \(count) readings"
  }

  /// Where the readings of a backup lie: beside its objects.
  static func readings(of file: String) -> String { "\(file).readings" }

  private func restore(_ file: String, _ configuration: CloudConfiguration, _ random: any RandomSource)
    throws(SkerryError) -> String
  {
    try Files.makeDirectory(configuration.data, mode: 0o700, durably: true)
    // Nothing is touched before both are known to be good: the readings are checked by their own restore.
    try LogRestore.verify(file)
    // The readings first: a restore that stops in between is begun again, and the objects' epoch is its last step.
    var told = "\(file) has no readings beside it, so those that are there stay"
    if Files.exists(Self.readings(of: file)) {
      let count = try ReadingsArchive.restore(from: Self.readings(of: file), to: configuration.readings)
      told = "\(configuration.readings) holds \(count) readings"
    }
    let cursor = try LogRestore.run(from: file, to: configuration.objects, random: random)
    return
      "\(configuration.objects) is \(file) now; it goes on at revision \(cursor.position + 1) in a new epoch; \(told)"
  }
}
