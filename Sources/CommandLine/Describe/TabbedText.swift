/// Lines of cells, aligned as Go's text/tabwriter aligns them for `kubectl describe`: a column is a run of lines that
/// have a cell there with another behind it, and is as wide as its widest cell and two spaces.
struct TabbedText {
  private var lines: [[String]] = []
  private static let padding = 2

  /// One line at a level of two spaces each; the first cell carries the indentation.
  mutating func line(_ level: Int = 0, _ cells: String...) { lines.append(indented(level, cells)) }
  mutating func row(_ level: Int, _ cells: [String]) { lines.append(indented(level, cells)) }

  private func indented(_ level: Int, _ cells: [String]) -> [String] {
    guard let first = cells.first else { return [""] }
    return [String(repeating: "  ", count: level) + first] + cells.dropFirst()
  }

  var text: String {
    var widths = [[Int]](repeating: [], count: lines.count)
    layOut(0..<lines.count, column: 0, &widths)
    return zip(lines, widths).map { cells, widths in
      cells.enumerated().map { index, cell in
        index < widths.count ? cell + String(repeating: " ", count: widths[index] - cell.count) : cell
      }.joined() + "\n"
    }.joined()
  }

  private func layOut(_ range: Range<Int>, column: Int, _ widths: inout [[Int]]) {
    var start = range.lowerBound
    while start < range.upperBound {
      guard lines[start].count - 1 > column else {
        start += 1
        continue
      }
      var (end, width) = (start, 0)
      while end < range.upperBound, lines[end].count - 1 > column {
        width = max(width, lines[end][column].count + Self.padding)
        end += 1
      }
      for line in start..<end { widths[line].append(width) }
      layOut(start..<end, column: column + 1, &widths)
      start = end
    }
  }
}
