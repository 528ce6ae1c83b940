-- SPDX-License-Identifier: BSD-2-Clause
-- Copyright (c) 2026 the apt-depot contributors
--
-- wrk asks for the targets of a list one after the other and prints one line of JSON.
--     wrk -t1 -c64 -d4s --latency -s hits.lua http://127.0.0.1:PORT -- LIST-FILE

local requests, at = {}, 0

function init(args)
	for line in io.lines(args[1]) do
		local target = line:match("%S+")
		requests[#requests + 1] = wrk.format("GET", target)
	end
end

function request()
	at = at % #requests + 1
	return requests[at]
end

function done(summary, latency)
	local e = summary.errors
	io.write(string.format('{"requests":%d,"errors":%d,"bytes":%d,"wall_s":%.6f,' ..
		'"whole_ms":{"p50":%.3f,"p99":%.3f},"first_error":"%s"}\n',
		summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
		summary.bytes, summary.duration / 1e6,
		latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
		e.status > 0 and "status above 399" or ""))
end
