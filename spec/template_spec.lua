local template = require("cws.template")

local function refused(text, why)
  local ok, message = pcall(template, text)
  assert.is_false(ok)
  assert.truthy(message:find(why, 1, true), message)
end

describe("template", function()
  it("puts values into text, escaped", function()
    local page = template("<p>{{a}}, {{ b }}</p>")
    assert.equal("<p>&lt;b&gt;, 7</p>", page({ a = "<b>", b = 7 }))
  end)

  it("puts values into attributes in either quotes", function()
    local page = template([[<a title="{{a}}" class='x {{a}}'>y</a>]])
    assert.equal([[<a title="&#34;&#39;" class='x &#34;&#39;'>y</a>]], page({ a = "\"'" }))
  end)

  it("puts whole JavaScript strings into scripts", function()
    local page = template("<script>var u = {{u:js}}; f({{u:js}});</script><p>{{u}}")
    local js = [["\u003C/script\u003E\u0022\u0027\u0026\u005C\u000A"]]
    assert.equal("<script>var u = " .. js .. "; f(" .. js .. ");</script><p>&lt;/script&gt;&#34;&#39;&amp;\\\n",
      page({ u = "</script>\"'&\\\n" }))
  end)

  it("keeps a page without placeholders as it is", function()
    assert.equal("a } { b", template("a } { b")({}))
    assert.equal("", template("")({}))
  end)

  it("does not look for placeholders in values", function()
    assert.equal("{{b}}", template("{{a}}")({ a = "{{b}}" }))
  end)

  it("refuses a plain placeholder in a script", function()
    refused("<script>var a = {{a}};</script>", "only {{name:js}} is safe")
    refused("<SCRIPT type='module'>{{a}}</SCRIPT>", "only {{name:js}} is safe")
    refused("<script>/* </p> */ if (a < b) {{a}}", "only {{name:js}} is safe")
  end)

  it("refuses a placeholder inside a JavaScript string, comment or regular expression", function()
    refused([[<script>var a = "{{a:js}}";</script>]], "inside a string")
    refused([[<script>var a = 'x\'{{a:js}}';</script>]], "inside a string")
    refused([[<script>var a = `${1}{{a:js}}`;</script>]], "inside a string")
    refused("<script>// {{a:js}}\n</script>", "inside a comment")
    refused("<script>/* {{a:js}} */</script>", "inside a comment")
    refused("<script>var a = /[/]{{a:js}}/;</script>", "inside a regular expression")
    refused([[<script>f({{a:js}}, "{{b:js}}");</script>]], "inside a string")
  end)

  it("is not misled by what is over before the placeholder", function()
    for _, before in ipairs({
      "var q = /[\"'/]/g; var b = ",
      "var q = 6 / 2 / 1; var b = ",
      "// it's\nvar b = ",
      "/* \" */ var b = ",
      "var a = \"it's\", b = ",
      "return /\"/.test(x) && ",
      "var c = `'`; f(c, ",
    }) do
      local page = template("<script>" .. before .. "{{b:js}};</script>")
      assert.equal("<script>" .. before .. '"1";</script>', page({ b = "1" }))
    end
  end)

  it("refuses an attribute without quotes", function()
    refused("<a href={{a}}>", "needs quotes")
    refused("<a {{a}}>", "needs quotes")
    refused("<a href=x{{a}}>", "needs quotes")
    refused([[<a href="x"{{a}}>]], "needs quotes")
    refused("<{{a}}>", "needs quotes")
    refused("</{{a}}>", "needs quotes")
    refused("<a title=x\"{{a}}\">", "needs quotes")
  end)

  it("refuses places that no escaping makes safe", function()
    refused("<!-- {{a}} -->", "comment is not safe")
    refused("<style>{{a}}</style>", "style is not safe")
    refused([[<p onclick="f('{{a}}')">]], "attribute 'onclick' is not safe")
    refused([[<p style="{{a}}">]], "attribute 'style' is not safe")
    refused([[<iframe srcdoc="{{a}}">]], "attribute 'srcdoc' is not safe")
    refused("<p>{{a:js}}", "only for scripts")
    refused([[<p title="{{a:js}}">]], "only for scripts")
  end)

  it("finds the end of tags, comments and scripts", function()
    assert.equal("<p a='>'>1", template("<p a='>'>{{a}}")({ a = 1 }))
    assert.equal("<!-- > -->1", template("<!-- > -->{{a}}")({ a = 1 }))
    assert.equal("<script>'<p>'</script>1", template("<script>'<p>'</script>{{a}}")({ a = 1 }))
    assert.equal("<br/>1", template("<br/>{{a}}")({ a = 1 }))
    assert.equal("</p>1 < 2", template("</p>{{a}} < 2")({ a = 1 }))
    assert.equal("<title>1</title>", template("<title>{{a}}</title>")({ a = 1 }))
  end)

  it("refuses what looks like a placeholder and is none, with its line", function()
    refused("a\nb {{", "line 2: {{name}} or {{name:js}} expected")
    refused("{{a:html}}", "line 1")
    refused("{{a b}}", "line 1")
    refused("{{}}", "line 1")
    refused("{{1}}", "line 1")
  end)

  it("raises for missing values, values of a wrong type and wrong arguments", function()
    local page = template("{{a}}")
    assert.error_matches(function() page({}) end, "string expected for 'a', got nil")
    assert.error_matches(function() page({ a = {} }) end, "string expected for 'a', got table")
    assert.error_matches(function() page() end, "bad argument #1 to 'template' %(table expected, got no value%)")
    assert.error_matches(function() template(1) end, "bad argument #1 to 'template' %(string expected, got number%)")
  end)
end)
