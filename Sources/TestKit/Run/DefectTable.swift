import Base
import Glibc

/// Plants each defect in turn, in processes of their own, until a seed finds it by the promise that it breaks. A seed
/// that finds it only by another promise is named beside it: one loss can break more than one.
struct DefectTable {
  private let options: SimulateCommand.Options
  init(_ options: SimulateCommand.Options) { self.options = options }

  private struct Search {
    let defect: Defect
    let child: ChildOutput
    var seeds = 0
    var found: RunResult?
    /// The first seed that found it by other promises only.
    var other: RunResult?
  }

  func run() throws(SkerryError) -> Int32 {
    var waiting = Defect.all
    var searches: [Search] = []
    var rows: [String: (row: String, isFound: Bool)] = [:]
    SimulateCommand.say("planted defect".padded(24) + "breaks".padded(20) + "found")
    while !waiting.isEmpty || !searches.isEmpty {
      while !waiting.isEmpty, searches.count < options.jobs {
        let defect = waiting.removeFirst()
        var words = ["--lines", "--first", "\(options.first)", "--seeds", "\(options.seeds)", "--defect", defect.name]
        if options.small { words.append("--small") }
        searches.append(Search(defect: defect, child: try ChildOutput(words)))
      }
      for index in ChildOutput.ready(searches.map(\.child)).reversed() {
        let lines = searches[index].child.read()
        for line in lines ?? [] {
          guard let result = Report.result(fromLine: line) else { continue }
          searches[index].seeds += 1
          if result.violations.isEmpty { continue }
          if result.finds(searches[index].defect) {
            searches[index].found = result
          } else if searches[index].other == nil {
            searches[index].other = result
          }
        }
        guard lines == nil else { continue }
        _ = searches[index].child.wait()
        let search = searches.remove(at: index)
        rows[search.defect.name] = row(search)
        SimulateCommand.say(rows[search.defect.name]?.row ?? "")
      }
    }
    let missed = rows.filter { !$0.value.isFound }.keys.sorted()
    SimulateCommand.say(
      "\(rows.count - missed.count) of \(rows.count) planted defects found by the promise that they break"
        + (missed.isEmpty ? "" : "; not found: \(missed.joined(separator: ", "))"))
    return missed.isEmpty ? 0 : 1
  }

  private func row(_ search: Search) -> (row: String, isFound: Bool) {
    let name = search.defect.name.padded(24) + search.defect.breaks.rawValue.padded(20)
    var beside = ""
    if let other = search.other, let promise = other.violations.first?.promise {
      beside = " (also seed \(other.seed), by \(promise.rawValue))"
    }
    guard let found = search.found, let first = found.violations.first(where: { $0.promise == search.defect.breaks })
    else { return (name + "NOT FOUND within \(search.seeds) seeds" + beside, false) }
    return (name + "seed \(found.seed), after \(search.seeds)\(beside): \(first.text.prefix(110))", true)
  }
}

extension String {
  func padded(_ width: Int) -> String {
    count >= width ? self + " " : self + String(repeating: " ", count: width - count)
  }
}
