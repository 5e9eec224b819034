-- coroutines, metatables, closures, goto, load, errors, garbage collection, close.
local function gen(n) return coroutine.wrap(function() for i = 1, n do coroutine.yield(i, i * i) end return "end" end) end
local g = gen(2) print(g()) print(g()) print(g()) print(pcall(g))
local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) error({code = b}) end)
print(coroutine.resume(co, 1)) local ok, e = coroutine.resume(co, 5) print(ok, e.code, coroutine.status(co), coroutine.resume(co))
print(coroutine.isyieldable(), coroutine.running() ~= nil, select(2, coroutine.resume(coroutine.create(function() return coroutine.isyieldable() end))))
local cl = coroutine.create(function() local x <close> = setmetatable({}, {__close = function() print("closed") end}) coroutine.yield() end)
coroutine.resume(cl) print(coroutine.close(cl), coroutine.status(cl))
local V = {} V.__index = V V.__add = function(a, b) return setmetatable({x = a.x + b.x}, V) end V.__eq = function(a, b) return a.x == b.x end
V.__lt = function(a, b) return a.x < b.x end V.__le = function(a, b) return a.x <= b.x end V.__tostring = function(a) return "V" .. a.x end V.__len = function() return 7 end
V.__call = function(self, y) return self.x + y end V.__concat = function(a, b) return tostring(a) .. "~" .. tostring(b) end V.__unm = function(a) return setmetatable({x = -a.x}, V) end
V.__idiv = function() return "idiv" end V.__band = function() return "band" end V.__shl = function() return "shl" end V.__name = "Vector"
local a, b = setmetatable({x = 1}, V), setmetatable({x = 2}, V)
print(tostring(a + b), a == b, a < b, a <= b, #a, a(10), a .. b, tostring(-a), a // b, a & b, a << b, pcall(function() return a | b end))
local proxy = setmetatable({}, {__index = function(_, k) return k .. "!" end, __newindex = function(t, k, v) rawset(t, k, v * 2) end, __pairs = function() return next, {p = 1}, nil end})
proxy.q = 4 print(proxy.z, proxy.q, rawget(proxy, "z"), rawlen({1, 2}), rawequal(a, a)) for k, v in pairs(proxy) do print(k, v) end
print(getmetatable("").__index == string, pcall(setmetatable, setmetatable({}, {__metatable = "locked"}), {}))
local fs = {} for i = 1, 3 do fs[i] = function() i = i + 1 return i end end print(fs[1](), fs[1](), fs[2]())
for i = 1, 3 do for j = 1, 3 do if j == 2 then goto next end io.write(i, j, " ") end ::next:: end print()
for i = 10, 1, -3 do io.write(i, " ") end for i = 1.0, 2, 0.5 do io.write(i, " ") end print(pcall(function() for i = 1, 2, 0 do end end))
print(load("return 1 + ...")(41), load("syntax error here"), type(load(function() return nil end)), load("x = 1", "name", "t", {}) ~= nil)
local env = {} load("y = 5; z = y * 2", "c", "t", env)() print(env.y, env.z, y) print(load(string.dump(function(n) return n * 3 end), "d", "b")(14), load(string.dump(function() end), "d", "t"))
print(pcall(error)) print(pcall(error, "msg", 0)) print(pcall(error, "msg")) print(select(2, pcall(error, {1}))[1]) print(xpcall(function() local x = nil; return x.y end, function(m) return "handled: " .. m end))
print(pcall(function() return #5 end)) print(pcall(function() return {} < {} end)) print(pcall(function() return "a" + 1 end)) print(pcall(function() local t = {} t[nil] = 1 end)) print(pcall(next, {}, "nokey"))
print(pcall(function() local function r() return 1 + r() end return r() end)) print(pcall(string.rep)) print(pcall(("x").bad)) print(select(-1, 1, 2, 3), pcall(select, 0))
print(assert(1, "unused"), pcall(assert, false, "failed"), pcall(assert, nil)) print(#debug.traceback("tb") > 5, debug.getinfo(1, "l").currentline, debug.getinfo(print).what)
collectgarbage() local weak = setmetatable({}, {__mode = "k"}) weak[{}] = 1 collectgarbage() print(next(weak)) local kept = {} weak[kept] = 2 collectgarbage() print(weak[kept])
do local fin = setmetatable({}, {__gc = function() print("finalized") end}) end collectgarbage() print(collectgarbage("count") > 0, collectgarbage("isrunning"), collectgarbage("generational"), collectgarbage("incremental"), collectgarbage("step"))
do local c1 <close> = setmetatable({}, {__close = function(_, err) print("close 1", err) end}) local c2 <close> = setmetatable({}, {__close = function() print("close 2") end}) local k <const> = 1 print("in", k) end
print(pcall(function() local c <close> = setmetatable({}, {__close = function(_, err) print("close with", err) end}) error("boom", 0) end))
local n = 0 for _ = 1, 200000 do local t = {n} n = n + #t end print(n) local s = {} for i = 1, 50000 do s[#s + 1] = tostring(i) end print(#table.concat(s))
print(require("string") == string, package.loaded._G == _G, package.config:sub(1, 1), pcall(require, "no.such.module") == false, type(package.searchers), _VERSION, arg[0], #arg)
warn("@on") warn("a ", "warning") local function f(...) local x, y = ... return select("#", ...), x, y end print(f(nil, nil)) print((f(1, 2)))
error(setmetatable({}, {__tostring = function() return "the end" end}))
