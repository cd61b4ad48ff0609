import Foundation
import Testing

/// The manifest's table of rooms: name, floor, and the rooms it may use.
struct House {
  struct Room {
    let name: String
    let floor: Int
    let dependencies: Set<String>
    let pure: Bool
  }
  let rooms: [String: Room]

  init(manifest: String) {
    var rooms: [String: Room] = [:]
    // `let modbus: Target.Dependency = .target(name: "CModbus", …)` stands for that room in the rows.
    let constants = manifest.matches(of: /let (\w+): Target\.Dependency = \.target\(name: "(\w+)"/)
      .map { (word: String($0.1), room: String($0.2)) }
    for floor in 0...7 {
      guard let start = manifest.range(of: "let floor\(floor): [Target] = [") else { continue }
      let end = manifest.range(of: "\n]", range: start.upperBound..<manifest.endIndex)?.lowerBound ?? manifest.endIndex
      let table = manifest[start.upperBound..<end]
      for row in table.matches(of: /\b(room|main|library|driver|fuzzer|\.executableTarget|\.target)\(/) {
        let body = Self.balanced(table[row.range.upperBound...])
        let strings = body.matches(of: /"([A-Za-z0-9_-]+)"/).map { String($0.1) }
        guard let name = strings.first else { continue }
        let words = Set(body.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init))
        let named = constants.filter { words.contains($0.word) }.map(\.room)
        rooms[name] = Room(
          name: name, floor: floor, dependencies: row.1 == "library" ? [] : Set(strings.dropFirst()).union(named),
          pure: body.contains("pure: true"))
      }
    }
    self.rooms = rooms
  }

  /// The text up to the parenthesis that closes the call.
  private static func balanced(_ text: Substring) -> Substring {
    var depth = 1
    for index in text.indices {
      if text[index] == "(" { depth += 1 }
      if text[index] == ")" { depth -= 1 }
      if depth == 0 { return text[..<index] }
    }
    return text
  }

  static func read() throws -> House {
    let url = Repository.root.appendingPathComponent("Package.swift")
    return House(manifest: try String(contentsOf: url, encoding: .utf8))
  }
}

/// The module that a line imports, or nil.
func importedModule(_ line: String) -> String? {
  let pattern =
    /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:package |public |internal |private |fileprivate )?import (?:struct |class |enum |func |protocol |typealias |var |let )?(\w+)/
  return line.firstMatch(of: pattern).map { String($0.1) }
}

@Suite struct FloorTests {
  /// What a room may import besides rooms.
  static let everywhere: Set<String> = ["Glibc", "Synchronization", "Logging"]
  static let withFoundation: Set<String> = ["Foundation", "ArgumentParser", "Yams"]
  /// HDR histograms are for measuring alone.
  static let special: [String: Set<String>] = ["Bench": ["Histogram"]]
  static let foundationRooms: Set<String> = ["CommandLine", "skerry"]

  @Test func everyDirectoryOfSourcesIsARoom() throws {
    let house = try House.read()
    let names = try FileManager.default.contentsOfDirectory(
      atPath: Repository.root.appendingPathComponent("Sources").path)
    #expect(house.rooms.count >= 25, "the manifest's table could not be read")
    for name in names where !name.hasPrefix(".") {
      #expect(house.rooms[name] != nil, "Sources/\(name) is on no floor of Package.swift")
    }
  }

  @Test func dependenciesGoStrictlyDown() throws {
    let house = try House.read()
    for room in house.rooms.values {
      for dependency in room.dependencies {
        guard let below = house.rooms[dependency] else { continue }
        #expect(
          below.floor < room.floor,
          "Package.swift: \(room.name) (floor \(room.floor)) uses \(below.name) (floor \(below.floor))")
      }
    }
  }

  /// Planted defects, simulated machines and disks that lie are `TestKit`'s: no program but the simulator has it, so no
  /// build of a daemon can hold one.
  @Test func onlyTheSimulatorHasTheTestKit() throws {
    let users = try House.read().rooms.values.filter { $0.dependencies.contains("TestKit") }.map(\.name)
    #expect(users == ["skerry-simulate"])
    for (file, code) in try Repository.code() where file.room != "TestKit" {
      let plants = code.lines.contains { $0.contains("Defect(") }
      #expect(!plants, "\(file.path): planted defects live in TestKit alone")
    }
  }

  @Test func importsGoStrictlyDownAndAreDeclared() throws {
    let house = try House.read()
    for (file, code) in try Repository.code() {
      guard let room = house.rooms[file.room] else { continue }
      for (number, line) in code.lines.enumerated() where line.contains("import ") {
        guard let module = importedModule(line) else { continue }
        let place = "\(file.path):\(number + 1)"
        if let below = house.rooms[module] {
          #expect(below.floor < room.floor, "\(place): \(room.name) imports \(module), which is not below it")
          #expect(room.dependencies.contains(module), "\(place): \(module) is missing from Package.swift")
          let isC = below.floor == 0
          #expect(!room.pure || !isC, "\(place): \(room.name) is pure and imports the C module \(module)")
        } else {
          let allowed =
            Self.everywhere.contains(module) || Self.special[room.name]?.contains(module) == true
            || (Self.foundationRooms.contains(room.name) && Self.withFoundation.contains(module))
            || (room.name.hasSuffix("Conformance") && module == "Testing")
          #expect(allowed, "\(place): \(room.name) may not import \(module)")
          #expect(!room.pure || module != "Glibc", "\(place): \(room.name) is pure and imports \(module)")
        }
      }
    }
  }

  @Test func theTestsOwnReadersWork() {
    let house = House(
      manifest: """
        let floor1: [Target] = [
          room("A", [logging]),
        ]
        let floor2: [Target] = [
          room(
            "B",
            [
              "A", .target(name: "C", condition: .when(traits: ["T"])),
            ], pure: true),
          library("L", "pc", "apt"),
        ]
        """)
    #expect(house.rooms["B"]?.dependencies == ["A", "C", "T"])
    #expect(house.rooms["B"]?.pure == true && house.rooms["A"]?.floor == 1)
    #expect(house.rooms["L"]?.dependencies == [])
    #expect(importedModule("import Base") == "Base")
    #expect(importedModule("@preconcurrency package import struct Base.Value") == "Base")
    #expect(importedModule("// import Base") == nil && importedModule("let important = 1") == nil)
  }
}
