"""The pages that people look at: `/`, `/sites/SITE_ID`, `/system`, and what they load.

They are made on the server, from the same queries as the API, and work without JavaScript. Everything that a page
shows is in its address (`address`), so that a link, a bookmark and the back button do what people expect.
"""
