import Base

/// Runs ranges of seeds in processes of their own, a few at a time: a range's memory ends with its process.
struct Workers {
  /// Seeds of one process at most.
  static let maxRange: UInt64 = 10

  private let options: SimulateCommand.Options
  init(_ options: SimulateCommand.Options) { self.options = options }

  func run() throws(SkerryError) -> Int32 {
    var next = options.first
    let end = options.first + options.seeds
    var children: [ChildOutput] = []
    var report = Report()
    var crashed = false
    let share = (options.seeds + UInt64(options.jobs) - 1) / UInt64(options.jobs)
    let range = min(Self.maxRange, max(1, share))
    while next < end || !children.isEmpty {
      while next < end, children.count < options.jobs {
        let count = min(range, end - next)
        children.append(try ChildOutput(arguments(first: next, count: count)))
        next += count
      }
      for index in ChildOutput.ready(children).reversed() {
        let lines = children[index].read()
        for line in lines ?? [] { take(line, into: &report) }
        guard lines == nil else { continue }
        if children.remove(at: index).wait() != 0 {
          crashed = true
          SimulateCommand.say("a worker crashed: run its seeds alone to see why")
        }
      }
    }
    SimulateCommand.say(report.description)
    return report.violations.isEmpty && report.isCovered && !crashed ? 0 : 1
  }

  private func arguments(first: UInt64, count: UInt64) -> [String] {
    var words = ["--lines", "--first", "\(first)", "--seeds", "\(count)"]
    if options.small { words.append("--small") }
    if let defect = options.defect { words += ["--defect", defect] }
    return words
  }

  private func take(_ line: String, into report: inout Report) {
    guard let result = Report.result(fromLine: line) else { return SimulateCommand.say(line) }
    report.add(result)
    SimulateCommand.tell(result, options)
  }
}
