import Base
import DeviceSDK

/// One read of neighbouring addresses, and the points that are cut out of it.
package struct ModbusRequest: Sendable, Hashable {
  package var table: ModbusTable
  package var address: Int
  package var count: Int
  package var points: [ModbusPoint]

  package var end: Int { address + count }
}

/// Groups points into as few reads as the protocol's limits allow.
package enum ModbusPlan {
  /// Points that touch or overlap go into one request; so do points with at most `gap` unread addresses between
  /// them. Reading a gap may touch an address that the device refuses, so it is 0 unless configured.
  package static func requests(for points: [ModbusPoint], gap: Int = 0) -> [ModbusRequest] {
    let order = ModbusTable.allCases
    let sorted = points.sorted { a, b in
      if a.table != b.table {
        return (order.firstIndex(of: a.table) ?? 0) < (order.firstIndex(of: b.table) ?? 0)
      }
      if a.address != b.address { return a.address < b.address }
      return a.name < b.name
    }
    var requests: [ModbusRequest] = []
    for point in sorted {
      if var last = requests.last, last.table == point.table, point.address <= last.end + gap {
        let end = max(last.end, point.end)
        if end - last.address <= point.table.maxRead {
          last.count = end - last.address
          last.points.append(point)
          requests[requests.count - 1] = last
          continue
        }
      }
      requests.append(ModbusRequest(table: point.table, address: point.address, count: point.count, points: [point]))
    }
    return requests
  }

  /// The same points, one request each: what to try after a device refused a grouped one, so that one illegal
  /// address spoils only its own property.
  package static func single(_ request: ModbusRequest) -> [ModbusRequest] {
    request.points.map {
      ModbusRequest(table: $0.table, address: $0.address, count: $0.count, points: [$0])
    }
  }
}

extension ModbusRequest {
  /// The values of this request's points from the registers that came.
  package func samples(registers: [UInt16]) -> [String: Result<Sample, DriverError>] {
    var samples: [String: Result<Sample, DriverError>] = [:]
    for point in points {
      let start = point.address - address
      let result: Result<Sample, DriverError>
      do throws(DriverError) {
        guard start >= 0, start + point.count <= registers.count else {
          throw DriverError(.refused, "property \(point.name): the answer is too short")
        }
        let value = try point.decode(Array(registers[start..<(start + point.count)]))
        result = .success(Sample(type: point.reported, value: value))
      } catch {
        result = .failure(error)
      }
      samples[point.name] = result
    }
    return samples
  }

  /// The values of this request's points from the bits that came.
  package func samples(bits: [Bool]) -> [String: Result<Sample, DriverError>] {
    var samples: [String: Result<Sample, DriverError>] = [:]
    for point in points {
      let index = point.address - address
      samples[point.name] =
        bits.indices.contains(index)
        ? .success(Sample(type: point.reported, value: point.decode(bit: bits[index])))
        : .failure(DriverError(.refused, "property \(point.name): the answer is too short"))
    }
    return samples
  }
}
