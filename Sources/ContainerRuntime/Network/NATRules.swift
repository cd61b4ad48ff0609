/// What the CNI plugins leave in the NAT table when nobody took a sandbox down in order.
enum NATRules {
  /// The iptables commands that remove each rule with a comment of that network, and the chains that such rules jump
  /// to and that are the plugins' per-sandbox ones.
  ///
  /// With an `id` only that sandbox's; `more` are chains that may be there though no rule names them.
  static func removal(_ saved: String, network: String, id: String? = nil, more: [String] = []) -> [[String]] {
    let comment = "name: \\\"\(network)\\\"" + (id.map { " id: \\\"\($0)\\\"" } ?? "")
    var deletions: [[String]] = []
    var chains = more.filter { saved.contains("\n:\($0) ") }
    for line in saved.split(separator: "\n") where line.hasPrefix("-A ") {
      guard line.contains(comment) else { continue }
      let words = split(String(line))
      deletions.append(["-D"] + words.dropFirst())
      if let jump = words.firstIndex(of: "-j"), jump + 1 < words.count {
        let target = words[jump + 1]
        let shared = target.hasPrefix("CNI-HOSTPORT")
        if target.hasPrefix("CNI-"), !shared, !chains.contains(target) { chains.append(target) }
      }
    }
    return deletions + chains.map { ["-F", $0] } + chains.map { ["-X", $0] }
  }

  /// The words of a line of iptables-save: separated by spaces, with `"…"` around some and `\"` in them.
  static func split(_ line: String) -> [String] {
    var words: [String] = []
    var word = ""
    var (quoted, escaped, started) = (false, false, false)
    for character in line {
      if escaped {
        word.append(character)
        escaped = false
      } else if character == "\\" {
        escaped = true
      } else if character == "\"" {
        quoted.toggle()
        started = true
      } else if character == " " && !quoted {
        if started { words.append(word) }
        (word, started) = ("", false)
      } else {
        word.append(character)
        started = true
      }
    }
    if started { words.append(word) }
    return words
  }
}
