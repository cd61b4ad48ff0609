import Base
import ObjectModel

/// Columns of text, three spaces apart, as kubectl prints them.
struct Table {
  var headers: [String]
  var rows: [[String]] = []
  /// Widths that were printed already: a watch goes on in the same columns.
  private(set) var widths: [Int] = []

  init(_ headers: [String]) { self.headers = headers.map { $0.uppercased() } }

  /// The lines of all rows, with the header unless it is left out; the last column is not padded.
  mutating func text(withHeader: Bool = true) -> String {
    let lines = (withHeader ? [headers] : []) + rows
    for line in lines {
      for (index, cell) in line.enumerated() {
        if index >= widths.count { widths.append(0) }
        widths[index] = max(widths[index], cell.count)
      }
    }
    return lines.map { line in
      line.enumerated().map { index, cell in
        index == line.count - 1 ? cell : cell + String(repeating: " ", count: widths[index] - cell.count + 3)
      }.joined() + "\n"
    }.joined()
  }
}

/// How `-o` prints objects.
enum OutputFormat: Sendable, Hashable {
  case table
  case wide
  case json
  case yaml
  case name

  init(_ text: String?) throws(SkerryError) {
    switch text {
    case nil, "": self = .table
    case "wide": self = .wide
    case "json": self = .json
    case "yaml": self = .yaml
    case "name": self = .name
    case let other?:
      throw SkerryError(.invalidArgument, "unknown output format \"\(other)\"; there is wide, json, yaml and name")
    }
  }
}

/// The rows of one kind.
struct ObjectTable {
  let kind: Kind
  let isWide: Bool
  let withNamespace: Bool
  let withLabels: Bool
  /// Names are printed as `pod/x`: several kinds are shown at once.
  let withKind: Bool
  var table: Table

  init(kind: Kind, isWide: Bool = false, withNamespace: Bool = false, withLabels: Bool = false, withKind: Bool = false)
  {
    self.kind = kind
    self.isWide = isWide
    self.withNamespace = withNamespace && kind.isNamespaced
    self.withLabels = withLabels
    self.withKind = withKind
    var headers = kind.columns.filter { isWide || $0.priority == 0 }.map(\.name)
    if self.withNamespace { headers.insert("Namespace", at: 0) }
    if withLabels { headers.append("Labels") }
    table = Table(headers)
  }

  func row(_ object: Object, now: WallTime) -> [String] {
    var cells = kind.row(object, now: now, wide: isWide).map(Self.text)
    if withKind, !cells.isEmpty { cells[0] = "\(kind.displayPrefix)/\(object.name)" }
    if withNamespace { cells.insert(object.namespace, at: 0) }
    if withLabels {
      let labels = object.labels.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: ",")
      cells.append(labels.isEmpty ? "<none>" : labels)
    }
    return cells
  }

  /// Adds columns behind those of the kind; a list of cells for each row.
  mutating func append(_ headers: [String], _ cells: [[String]]) {
    table.headers += headers.map { $0.uppercased() }
    for (index, more) in cells.enumerated() { table.rows[index] += more }
  }

  static func text(_ value: Value) -> String {
    switch value {
    case .null: "<none>"
    case .string(let text): text.isEmpty ? "<none>" : text
    case .int(let number): String(number)
    case .double(let number): number.description
    case .bool(let flag): String(flag)
    case .array, .object: JSON.print(value)
    }
  }
}

extension Kind {
  /// `pod`, `deployment.apps`: the kind in `kind/name`.
  var displayPrefix: String { group.isEmpty ? singular : "\(singular).\(group)" }
}

extension Value {
  /// What `-o json` prints.
  var prettyJSON: String { JSON.print(self, indent: 4) + "\n" }
}
